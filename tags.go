package thaw

import (
	"encoding/json"
	"strings"
)

// Tags of a function by which its owner decides how its environments are started.
const (
	// TagSnapshot with the value "off" has every environment booted; "on" is what no tag means.
	TagSnapshot = "thaw:snapshot"
	// TagWarmupEvent holds the JSON event of one invocation that a template serves before it is parked.
	TagWarmupEvent = "thaw:warmup-event"
	// TagWarmup with the value "true" asks for one with {"warmup": true}; "false" is what no tag means.
	TagWarmup = "thaw:warmup"
	// TagInitProfile with the value "off" has no init of the function measured; "on" is what no tag means.
	TagInitProfile = "thaw:init-profile"

	tagPrefix = "thaw:"
)

// CheckTag judges a tag that is to be set. Keys that begin with thaw: mean something to the platform, so that an unknown one
// or a value without meaning is a mistake; all others are the owner's own. Errors are *Error.
func CheckTag(key, value string) error {
	if !strings.HasPrefix(key, tagPrefix) {
		return nil
	}
	bad := func(want string) error {
		return Errorf(CodeInvalidParameterValue, "The value of the tag %s must be %s, not '%s'.", key, want, value)
	}
	switch key {
	case TagSnapshot, TagInitProfile:
		if value != "on" && value != "off" {
			return bad("on or off")
		}
	case TagWarmup:
		if value != "true" && value != "false" {
			return bad("true or false")
		}
	case TagWarmupEvent:
		if !json.Valid([]byte(value)) {
			return bad("a JSON event")
		}
	default:
		return Errorf(CodeInvalidParameterValue, "There is no tag %s. The tags that begin with %s are %s, %s, %s and %s.", key, tagPrefix, TagSnapshot, TagWarmup, TagWarmupEvent, TagInitProfile)
	}
	return nil
}
