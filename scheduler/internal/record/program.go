package record

import "strings"

// programSource begins the source of tasks that a program declared.
const programSource = "program/"

// Submitted is the prefix of the ids of the tasks that run the scheduler functions of
// submitted programs. No program may have it as its name.
const Submitted = "program"

// SubmittedID is the id of the task that runs the scheduler function of a program.
func SubmittedID(name string) string { return Submitted + "/" + name }

// ProgramSource is the source of the tasks of one run of a program.
func ProgramSource(name, run string) string { return programSource + name + "/" + run }

// ProgramOf takes a source apart; ok is false if it is not a program's. A
// program's name has no slash.
func ProgramOf(source string) (name, run string, ok bool) {
	rest, ok := strings.CutPrefix(source, programSource)
	if !ok {
		return "", "", false
	}
	name, run, ok = strings.Cut(rest, "/")
	return name, run, ok && name != "" && run != ""
}
