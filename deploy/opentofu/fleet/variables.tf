variable "members" {
  description = "How many nodes. Before you make it smaller: floatip drain and floatip fleet leave on the last ones."
  type        = number
  default     = 3
}

variable "region" {
  description = "The region of all nodes, such as us-east."
  type        = string
}

variable "floating" {
  description = "The floating addresses, which exist and belong to another machine, such as [\"192.0.2.10\"]."
  type        = list(string)
}

variable "etcd" {
  description = "The addresses of etcd's members, such as [\"192.168.143.201\"]."
  type        = list(string)
}

variable "etcd_ca" {
  description = "The certificate of etcd's CA: a path on this machine."
  type        = string
}

variable "etcd_password" {
  description = "The password of etcd's user floatip."
  type        = string
  sensitive   = true
}

variable "floatip_key" {
  description = "The key of the nodes, the text that floatip key made."
  type        = string
  sensitive   = true
}

variable "floatip_sources" {
  description = "The floatip.sources of the apt repository, as make apt-repo makes it: a path on this machine."
  type        = string
}

variable "ssh_keys" {
  description = "Public keys of root."
  type        = list(string)
}

variable "ssh_from" {
  description = "The networks from which ssh is accepted, such as [\"198.51.100.0/24\"]."
  type        = list(string)
}

variable "label" {
  description = "What the names of all things begin with, and those of the nodes."
  type        = string
  default     = "member"
}

variable "type" {
  description = "The plan of all nodes."
  type        = string
  default     = "g6-standard-1"
}

variable "image" {
  description = "A Debian or Ubuntu that has cloud-init."
  type        = string
  default     = "linode/debian12"
}

variable "service_port" {
  description = "The TCP port of the service that the floating addresses lead to."
  type        = number
  default     = 80
}
