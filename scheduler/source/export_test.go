package source

// Changed is when a file changed last.
var Changed = changed
