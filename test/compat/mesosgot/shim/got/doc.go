// Package mesosgot stands in the place of github.com/yglcode/mesosgot when programs of
// a user's checkout are tried unchanged. It is compat/mesosgot by other names; programs
// that are ported import that. TestEveryName holds the two together.
package mesosgot
