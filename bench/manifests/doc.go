// Package manifests has the tests of deploy/kubernetes and deploy/helm by the types of Kubernetes itself.
// Whether the commands in them work is tried by TestKubernetes in test/e2e.
package manifests
