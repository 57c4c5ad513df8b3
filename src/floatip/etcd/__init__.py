"""The process that speaks with etcd: a client of its gRPC gateway, and the daemon's questions to it."""
