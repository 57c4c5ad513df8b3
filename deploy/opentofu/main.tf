# Two Linodes that carry one floating IPv4 address. See docs/operate/deploy.md: what it makes, and what was not tried.
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
  nodes = ["haproxy1", "haproxy2"]
  # Addresses are reserved first: each node's configuration names both nodes, before either exists.
  addresses = { for name in local.nodes : name => linode_reserved_ip.node[name].address }
  floating  = linode_reserved_ip.floating.address
  configuration = templatefile("${path.module}/floatip.toml.tftpl", {
    dcid     = var.dcid
    nodes    = local.addresses
    floating = local.floating
    port     = var.service_port
  })
  user_data = templatefile("${path.module}/../cloud-init/user-data.yaml", {
    sources       = base64encode(file(var.floatip_sources))
    configuration = base64encode(local.configuration)
    key           = var.floatip_key == null ? "" : base64encode(var.floatip_key)
  })
}

resource "linode_reserved_ip" "node" {
  for_each = toset(local.nodes)
  region   = var.region
}

resource "linode_reserved_ip" "floating" {
  region = var.region
}

# One failed host of the provider must not take both nodes.
resource "linode_placement_group" "pair" {
  label                = var.label
  region               = var.region
  placement_group_type = "anti_affinity:local"
}

resource "linode_instance" "node" {
  for_each = toset(local.nodes)

  label           = "${var.label}-${each.key}"
  region          = var.region
  type            = var.type
  image           = var.image
  authorized_keys = var.ssh_keys
  ipv4            = [local.addresses[each.key]]

  # It would write the floating address to eth0 with the /24 of its network. floatip holds it on lo.
  network_helper = false

  placement_group {
    id = linode_placement_group.pair.id
  }

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

# The first node owns the floating address, and the second is allowed to announce it too.
resource "linode_reserved_ip_assignment" "floating" {
  address   = local.floating
  linode_id = linode_instance.node[local.nodes[0]].id
  public    = true
}

resource "linode_instance_shared_ips" "second" {
  linode_id  = linode_instance.node[local.nodes[1]].id
  addresses  = [local.floating]
  depends_on = [linode_reserved_ip_assignment.floating]
}

# Linode's firewall knows no protocol 112 (VRRP). The nodes elect over UDP instead.
resource "linode_firewall" "pair" {
  label           = var.label
  linodes         = [for node in linode_instance.node : node.id]
  inbound_policy  = "DROP"
  outbound_policy = "DROP"

  inbound {
    label    = "floatip-link"
    action   = "ACCEPT"
    protocol = "UDP"
    ports    = "9112, 8473"
    ipv4     = [for address in values(local.addresses) : "${address}/32"]
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

  outbound {
    label    = "floatip-link"
    action   = "ACCEPT"
    protocol = "UDP"
    ports    = "9112, 8473"
    ipv4     = [for address in values(local.addresses) : "${address}/32"]
  }

  outbound {
    label    = "floatip-bgp"
    action   = "ACCEPT"
    protocol = "TCP"
    ports    = "179"
    ipv6     = ["2600:3c0f:${var.dcid}:34::/64"]
  }

  # Packages, names and time.
  outbound {
    label    = "web"
    action   = "ACCEPT"
    protocol = "TCP"
    ports    = "80, 443"
    ipv4     = ["0.0.0.0/0"]
    ipv6     = ["::/0"]
  }

  outbound {
    label    = "dns-ntp"
    action   = "ACCEPT"
    protocol = "UDP"
    ports    = "53, 123"
    ipv4     = ["0.0.0.0/0"]
    ipv6     = ["::/0"]
  }

  outbound {
    label    = "icmp"
    action   = "ACCEPT"
    protocol = "ICMP"
    ipv4     = ["0.0.0.0/0"]
    ipv6     = ["::/0"]
  }
}
