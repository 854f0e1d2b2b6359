// Package kubernetes builds a control plane of Kubernetes (kube-apiserver,
// kube-controller-manager and kube-scheduler) and runs the tests of the engine kubernetes
// on it: make engines. It is a module of its own for what it takes to build. There is no
// kubelet in it: the test's nodes start the processes of pods on this machine.
package kubernetes
