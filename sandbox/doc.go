// Package sandbox is one execution environment's life: booted, idle, invoked, frozen, stopped. How it is isolated is a
// Driver's business (sandbox/linux); what is spoken with the process inside is runtimes'.
package sandbox
