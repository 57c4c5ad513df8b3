"""A fleet at etcd: its members, its configuration, and the commands for both."""
