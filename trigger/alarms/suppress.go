package alarms

import "time"

// What holds a composite alarm's actions back, CloudWatch's ActionsSuppressedBy. Its page "Suppressing composite alarm actions" has
// the rules:
//
//	the alarm changes ──▶ WaitPeriod ──▶ over: the actions of the state that it is in then
//	                         │ the suppressor is in ALARM
//	                         ▼
//	                       Alarm ──▶ ExtensionPeriod ──▶ over: as above
//
// A further change of the alarm begins a WaitPeriod anew, and so again Alarm where the suppressor is in ALARM.
const (
	byWait      = "WaitPeriod"
	byExtension = "ExtensionPeriod"
	byAlarm     = "Alarm"
)

// SuppressedReason is CloudWatch's ActionsSuppressedReason; empty where nothing is held back.
func (s *Status) SuppressedReason() string {
	if s.SuppressedBy == "" {
		return ""
	}
	return "Actions suppressed by " + s.SuppressedBy
}

// suppressor is what is known of the alarm that suppresses actions.
type suppressor int

const (
	unseen suppressor = iota // it is looked at by the loop
	quiet
	alarming
)

// hold begins to hold actions back, since the state has changed, and reports whether it does.
func (a *Alarm) hold(by suppressor, now time.Time) bool {
	a.Status.SuppressedBy, a.HeldUntil = "", time.Time{}
	switch c := a.Composite; {
	case c == nil || c.Suppressor == "" || !a.Enabled:
	case by == alarming:
		a.Status.SuppressedBy = byAlarm
	case c.Wait > 0 || by == unseen:
		a.Status.SuppressedBy, a.HeldUntil = byWait, now.Add(time.Duration(c.Wait)*time.Second)
	}
	return a.Status.SuppressedBy != ""
}

// held moves on what is held back, to its actions in the end, and reports whether anything has changed.
func (a *Alarm) held(s suppressor, now time.Time) bool {
	switch by := a.Status.SuppressedBy; {
	case by == "", s == alarming && by == byAlarm:
		return false
	case s == alarming:
		a.Status.SuppressedBy, a.HeldUntil = byAlarm, time.Time{}
	case by == byAlarm && a.Composite.Extension > 0:
		a.Status.SuppressedBy, a.HeldUntil = byExtension, now.Add(time.Duration(a.Composite.Extension)*time.Second)
	case by != byAlarm && now.Before(a.HeldUntil):
		return false
	default:
		old := a.Status
		a.Status.SuppressedBy, a.Status.Updated, a.HeldUntil = "", now, time.Time{}
		a.act(&old)
	}
	return true
}

// Resuppress ends the period that is under way, since the suppressor is another one. What is held back is looked at again at
// once.
func (a *Alarm) Resuppress(now time.Time) {
	if a.Status.SuppressedBy != "" {
		a.Status.SuppressedBy, a.HeldUntil = byWait, now
	}
}
