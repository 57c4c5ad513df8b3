# Members of a fleet on etcd: `tofu apply -var members=5` adds nodes, which join it when they boot. See
# docs/operate/deploy.md: what it makes, and what was not tried. etcd itself is made elsewhere: docs/operate/etcd.md.
terraform {
  required_version = ">= 1.6"
  required_providers {
    linode = {
      source  = "linode/linode"
      version = ">= 3.0"
    }
  }
}

# The token comes from LINODE_TOKEN, so that it stands in no file.
provider "linode" {}

locals {
  # The same on all nodes, so a new one changes no other. The rest is in etcd: floatip fleet apply.
  configuration = templatefile("${path.module}/floatip.toml.tftpl", {
    endpoints = jsonencode([for address in var.etcd : "https://${address}:2379"])
  })
  user_data = templatefile("${path.module}/../../cloud-init/member.yaml", {
    sources       = base64encode(file(var.floatip_sources))
    configuration = base64encode(local.configuration)
    key           = base64encode(var.floatip_key)
    etcd_ca       = base64encode(file(var.etcd_ca))
    etcd_password = base64encode(var.etcd_password)
  })
}

resource "linode_instance" "member" {
  count = var.members

  label           = "${var.label}${count.index + 1}"
  region          = var.region
  type            = var.type
  image           = var.image
  authorized_keys = var.ssh_keys

  # It would write floating addresses to eth0 with the /24 of their network. floatip holds them itself.
  network_helper = false

  metadata {
    user_data = base64encode(local.user_data)
  }

  lifecycle {
    # A change of these would replace the machine. After the first boot, Ansible changes the configuration.
    ignore_changes = [metadata, image, authorized_keys]

    precondition {
      condition     = length(local.user_data) < 16384
      error_message = "The user data has ${length(local.user_data)} bytes, and Linode takes fewer than 16,384."
    }
  }
}

# Every member may announce every floating address. The machine that owns an address is not among the members.
resource "linode_instance_shared_ips" "member" {
  count = var.members

  linode_id = linode_instance.member[count.index].id
  addresses = var.floating
}

locals {
  members = [for member in linode_instance.member : "${tolist(member.ipv4)[0]}/32"]
}

resource "linode_firewall" "members" {
  label           = var.label
  linodes         = [for member in linode_instance.member : member.id]
  inbound_policy  = "DROP"
  outbound_policy = "ACCEPT"

  inbound {
    label    = "floatip-link"
    action   = "ACCEPT"
    protocol = "UDP"
    ports    = "9112, 8473"
    ipv4     = local.members
  }

  inbound {
    label    = "service"
    action   = "ACCEPT"
    protocol = "TCP"
    ports    = tostring(var.service_port)
    ipv4     = ["0.0.0.0/0"]
    ipv6     = ["::/0"]
  }

  inbound {
    label    = "ssh"
    action   = "ACCEPT"
    protocol = "TCP"
    ports    = "22"
    ipv4     = var.ssh_from
  }

  inbound {
    label    = "icmp"
    action   = "ACCEPT"
    protocol = "ICMP"
    ipv4     = ["0.0.0.0/0"]
    ipv6     = ["::/0"]
  }
}

output "members" {
  description = "The members, and their addresses: let etcd's firewall accept TCP port 2379 from them."
  value       = { for member in linode_instance.member : member.label => tolist(member.ipv4)[0] }
}
