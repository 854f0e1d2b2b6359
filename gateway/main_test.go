package gateway_test

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// workerCert is that of workers that speak TLS: the system trusts it.
var workerCert tls.Certificate

// Nothing that a test or a gateway has started outlives it.
func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "gateway-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		workerCert, err = makeCertificate()
	}
	if err == nil {
		file := filepath.Join(dir, "ca.pem")
		err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: workerCert.Certificate[0]}), 0o600)
		os.Setenv("SSL_CERT_FILE", file) // the roots are read once
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = m.Run()
	closeIdle()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}
