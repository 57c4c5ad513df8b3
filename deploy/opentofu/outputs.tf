output "floating_address" {
  description = "Where the service is reached."
  value       = local.floating
}

output "nodes" {
  description = "The addresses of the nodes."
  value       = local.addresses
}

output "inventory" {
  description = "For the Ansible collection: tofu output -raw inventory > inventory.yml"
  value = yamlencode({
    floatip = {
      hosts = { for name, address in local.addresses : name => { ansible_host = address, ansible_user = "root" } }
      vars = {
        floatip_dcid      = var.dcid
        floatip_checks    = [{ name = "service", tcp = "127.0.0.1:${var.service_port}" }]
        floatip_instances = [{ name = "web", addresses = ["${local.floating}/32"], checks = ["service"] }]
      }
    }
  })
}
