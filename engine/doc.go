// Package engine starts and stops workers on an existing platform: processes on this
// machine, or a cluster that Slurm, Nomad or Kubernetes runs. It defines pools, which say
// how many workers of which template should run, and the interface that every engine
// implements; each engine is a package in internal.
//
//	Pool ──(scheduler/internal/pools decides)──► Start, Stop, List ──► local, slurm, nomad, kubernetes
//
// The scheduler calls it. It never decides how many workers should run, keeps only what
// List can find again, and knows neither the store nor the API.
package engine
