// Package deps holds no code: its test holds the direction of the imports, the names of the packages, and that each
// package says what it is.
package deps
