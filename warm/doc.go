// Package warm holds the policies: how many environments are wanted, and which of them are worth most. They are pure
// functions of history and time, so that what is tuned on a trace is what runs. Placement keeps the history and acts.
package warm
