// Package engine starts and stops workers on something that exists: processes of this
// machine, or a cluster that Slurm, Nomad or Kubernetes runs. It has the words of pools,
// which say how many workers of which template there should be, and the one interface that
// every engine answers; each engine is a room in internal.
//
//	Pool ──(scheduler/internal/pools decides)──► Start, Stop, List ──► local, slurm, nomad, kubernetes
//
// The scheduler calls it. It never decides how many workers there should be, keeps
// nothing but what it can list, and knows neither the store nor the API.
package engine
