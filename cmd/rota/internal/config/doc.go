// Package config is the configuration of rota's processes: one table of options
// for each role (scheduler, worker, dev), read in layers: a flag wins over the
// environment (ROTA_...), that over the file (TOML or YAML), that over the
// default. Where each value came from is kept.
//
// The commands of the same names call it, and config check and config show. It
// reads the files that it is told to and never starts anything.
//
// An option named "etcd-cert" is the flag --etcd-cert, the variable
// ROTA_ETCD_CERT and the key etcd_cert of the file, which may also be written
// as cert in a table etcd.
package config
