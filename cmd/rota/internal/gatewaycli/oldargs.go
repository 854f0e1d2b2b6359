package gatewaycli

import (
	"slices"
	"strings"
)

// OldArgs returns the arguments of the program in today's spelling. olscheduler
// took a flag of start and workers with one dash or two, whatever its length:
// -config FILE and --c=FILE are --config FILE and -c=FILE.
func OldArgs(args []string) []string {
	if len(args) == 0 || args[0] != "start" && args[0] != "workers" {
		return args
	}
	args = slices.Clone(args)
	for i, a := range args[1:] {
		if a == "--" {
			break
		}
		name, value, given := strings.Cut(a, "=")
		switch name {
		case "-config", "-help", "-strict":
			name = "-" + name
		case "--c", "--h":
			name = name[1:]
		default:
			continue
		}
		if given {
			name += "=" + value
		}
		args[1+i] = name
	}
	return args
}
