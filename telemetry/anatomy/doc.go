// Package anatomy says in words what an invocation's time went to and what to do about it: which phase took most, how that
// compares with the function's usual start of the same kind, which import init spent its time on, and why the environment was
// not forked. It is made of pure functions of records and profiles; it reads nothing and knows no clock.
package anatomy
