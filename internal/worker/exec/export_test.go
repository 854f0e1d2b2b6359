package exec

// Argv is the command line of c for a task.
func Argv(c Config) (func(Fields) ([]string, error), error) {
	cmd, err := parse(c)
	if err != nil {
		return nil, err
	}
	return cmd.argv, nil
}
