package bundle

// Limit sets the limits of b, which are too large to be reached in tests.
func (b *Bundle) Limit(file, total int) { b.maxFile, b.maxTotal = file, total }
