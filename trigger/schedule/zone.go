package schedule

import (
	"fmt"
	"time"
	_ "time/tzdata" // a machine need not have the zones
)

// Zone gives the time zone with that name in the IANA database, such as Europe/Berlin; UTC for an empty name. The
// machine's own zone, which Go calls Local, is none that a schedule can name.
func Zone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("there is no time zone %q", name)
	}
	return loc, nil
}
