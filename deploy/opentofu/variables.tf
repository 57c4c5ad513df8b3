variable "region" {
  description = "The region of both nodes, such as us-east."
  type        = string
}

variable "dcid" {
  description = "Linode's number of that region: floatip providers lists them."
  type        = number
}

variable "ssh_keys" {
  description = "Public keys of root."
  type        = list(string)
}

variable "ssh_from" {
  description = "The networks from which ssh is accepted, such as [\"198.51.100.0/24\"]."
  type        = list(string)
}

variable "floatip_sources" {
  description = "The floatip.sources of the apt repository, as make apt-repo makes it: a path on this machine."
  type        = string
}

variable "floatip_key" {
  description = "The key of the nodes, the text that floatip key made. null: copy it by ssh afterwards; then it is in no state and no metadata."
  type        = string
  default     = null
  sensitive   = true
}

variable "label" {
  description = "What the names of all things begin with."
  type        = string
  default     = "floatip"
}

variable "type" {
  description = "The plan of both nodes."
  type        = string
  default     = "g6-standard-1"
}

variable "image" {
  description = "A Debian or Ubuntu that has cloud-init."
  type        = string
  default     = "linode/debian12"
}

variable "service_port" {
  description = "The TCP port of the service that the floating address leads to."
  type        = number
  default     = 80
}
