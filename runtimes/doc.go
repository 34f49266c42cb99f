// Package runtimes knows languages: the bootstraps that run inside environments, which interpreters this host has, and
// the two invoke channels (frames on a socketpair, the HTTP Runtime API).
package runtimes
