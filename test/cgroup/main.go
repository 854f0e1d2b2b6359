//go:build linux

// Command cgroup tries limits of jobs on a kernel with cgroup v2, whatever the
// machine has that it runs on: it boots Debian's kernel under QEMU with this program
// as the first process, which starts a scheduler and workers there and runs jobs
// against their limits.
//
//	make cgroup # go run ./test/cgroup
//
// It needs Debian's packages qemu-system-x86, cpio and busybox-static, and takes the
// kernel from there, too, or from a file that ROTA_KERNEL names.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// patience is for QEMU without help of the hardware, on a busy machine.
const patience = 15 * time.Minute

func main() {
	if os.Getpid() == 1 {
		boot()
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "eat" {
		eat(os.Args[2])
		return
	}
	if err := host(); err != nil {
		fmt.Fprintln(os.Stderr, "cgroup:", err)
		os.Exit(1)
	}
}

// host boots the kernel and holds what it says to what it has to say.
func host() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, program := range []string{"qemu-system-x86_64", "cpio", "gzip", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: install Debian's packages qemu-system-x86, cpio and busybox-static", err)
		}
	}
	dir, err := os.MkdirTemp("", "rota-cgroup-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	kernel, err := kernelFile(ctx, dir)
	if err != nil {
		return err
	}
	image, err := initramfs(ctx, dir)
	if err != nil {
		return err
	}
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-cpu", "max", "-m", "2048", "-smp", "2", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "stdio", "-kernel", kernel, "-initrd", image,
		"-append", "console=ttyS0 quiet panic=-1 cgroup_no_v1=all")
	qemu.Stderr = os.Stderr
	out, err := qemu.StdoutPipe()
	if err != nil {
		return err
	}
	if err := qemu.Start(); err != nil {
		return err
	}
	passed, failed, done := 0, 0, false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		l := strings.TrimSuffix(lines.Text(), "\r")
		fmt.Println(l)
		switch {
		case strings.HasPrefix(l, "ok "):
			passed++
		case strings.HasPrefix(l, "FAIL "):
			failed++
		case l == allDone:
			done = true
		}
	}
	if err := errors.Join(qemu.Wait(), ctx.Err()); err != nil {
		return err
	}
	if !done || failed > 0 || passed == 0 {
		return fmt.Errorf("%d passed, %d failed, all tried: %t", passed, failed, done)
	}
	return nil
}

// kernelFile is a kernel with cgroup v2: the one that Debian has for virtual machines.
func kernelFile(ctx context.Context, dir string) (string, error) {
	if f := os.Getenv("ROTA_KERNEL"); f != "" {
		return f, nil
	}
	depends, err := output(exec.CommandContext(ctx, "apt-cache", "depends", "linux-image-cloud-amd64"))
	if err != nil {
		return "", err
	}
	_, name, ok := strings.Cut(depends, "Depends: ")
	if !ok {
		return "", errors.New("no kernel: run apt-get update for Debian's linux-image-cloud-amd64, or set ROTA_KERNEL")
	}
	name, _, _ = strings.Cut(name, "\n")
	download := exec.CommandContext(ctx, "apt-get", "-q", "download", name)
	download.Dir = dir
	if _, err := output(download); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("downloaded %q", debs)
	}
	if _, err := output(exec.CommandContext(ctx, "dpkg", "-x", debs[0], filepath.Join(dir, "kernel"))); err != nil {
		return "", err
	}
	images, err := filepath.Glob(filepath.Join(dir, "kernel/boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return "", fmt.Errorf("%s has the kernels %q", name, images)
	}
	return images[0], nil
}

// initramfs packs what the guest has: this program as its first process, rota, the
// tests of package process, and busybox.
func initramfs(ctx context.Context, dir string) (string, error) {
	root := filepath.Join(dir, "root")
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev", "home"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return "", err
		}
	}
	for _, argv := range [][]string{
		{"build", "-o", filepath.Join(root, "init"), "./test/cgroup"},
		{"build", "-o", filepath.Join(root, "bin/rota"), "./cmd/rota"},
		{"test", "-c", "-o", filepath.Join(root, "bin/process.test"), "./internal/process"},
	} {
		build := exec.CommandContext(ctx, "go", argv...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if _, err := output(build); err != nil {
			return "", err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		return "", err
	}
	for name, content := range map[string]string{
		"bin/busybox": string(b),
		"etc/passwd":  "root:x:0:0::/:/bin/sh\n" + ordinary + ":x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
		"etc/group":   "root:x:0:\n" + ordinary + ":x:1000:\nnogroup:x:65534:\n",
		"etc/hosts":   "127.0.0.1 localhost guest\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o755); err != nil {
			return "", err
		}
	}
	image := filepath.Join(dir, "initramfs")
	pack := exec.CommandContext(ctx, "sh", "-c", `cd "$1" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1 >"$2"`, "sh", root, image)
	_, err = output(pack)
	return image, err
}

// output runs a command and returns what it has printed.
func output(cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(&out, &errs)
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}
