// Package policy holds the rules of the house as tests: which way imports point,
// that every package says what it is for, that nothing is replaced. Which
// packages are pure is checked beside them, by package purity.
package policy
