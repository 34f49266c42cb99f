package sqs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// redrive is the attribute RedrivePolicy.
type redrive struct {
	Target      string `json:"deadLetterTargetArn"`
	MaxReceives int    `json:"maxReceiveCount"`
}

const maxReceiveCount = 1000

// checkRedrive gives a RedrivePolicy in the form that is kept and shown: compact, the count a number. The dead-letter
// queue must be there, be of the same type, and allow the source.
func (a *API) checkRedrive(source string, fifo bool, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	wrong := func(format string, args ...any) error {
		return invalidValue(text, redrivePolicy, fmt.Sprintf(format, args...))
	}
	var p struct {
		Target *string `json:"deadLetterTargetArn"`
		Count  any     `json:"maxReceiveCount"`
	}
	if json.Unmarshal([]byte(text), &p) != nil {
		return "", wrong("Redrive policy is not a valid JSON map.")
	}
	if p.Target == nil {
		return "", wrong("Redrive policy does not contain mandatory attribute: deadLetterTargetArn.")
	}
	if p.Count == nil {
		return "", wrong("Redrive policy does not contain mandatory attribute: maxReceiveCount.")
	}
	count, err := strconv.Atoi(fmt.Sprint(p.Count)) // AWS takes it as a string, too
	if err != nil || count < 1 || count > maxReceiveCount {
		return "", wrong("Invalid value for maxReceiveCount: %v, valid values are from 1 to 1000 both inclusive.", p.Count)
	}
	name, ok := a.ofARN(*p.Target)
	if !ok {
		return "", wrong("Invalid value for deadLetterTargetArn.")
	}
	if name == source {
		return "", wrong("A queue cannot be its own dead-letter queue.")
	}
	target, ok, err := a.named(name)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", wrong("Dead letter target does not exist.")
	case target.fifo != fifo:
		return "", wrong("Dead-letter queue must be same type of queue as the source.")
	case !allows(target, a.arn(source)):
		return "", wrong("The RedriveAllowPolicy of the dead-letter queue does not permit this queue.")
	}
	kept, err := json.Marshal(redrive{*p.Target, count})
	return string(kept), err
}

// redriveAllow is the attribute RedriveAllowPolicy.
type redriveAllow struct {
	Permission string   `json:"redrivePermission"`
	Sources    []string `json:"sourceQueueArns,omitempty"`
}

// maxSources is how many queues a RedriveAllowPolicy can name.
const maxSources = 10

func checkRedriveAllow(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	wrong := func(reason string) error { return invalidValue(text, redriveAllowPolicy, reason) }
	var p redriveAllow
	if json.Unmarshal([]byte(text), &p) != nil {
		return "", wrong("Redrive allow policy is not a valid JSON map.")
	}
	switch {
	case p.Permission == "":
		return "", wrong("Redrive allow policy does not contain mandatory attribute: redrivePermission.")
	case !slices.Contains([]string{"allowAll", "denyAll", "byQueue"}, p.Permission):
		return "", wrong("Invalid value for redrivePermission: it is allowAll, denyAll or byQueue.")
	case p.Permission == "byQueue" && (len(p.Sources) == 0 || len(p.Sources) > maxSources):
		return "", wrong("With byQueue, sourceQueueArns names 1 to 10 queues.")
	case p.Permission != "byQueue" && len(p.Sources) > 0:
		return "", wrong("sourceQueueArns can be given only with byQueue.")
	}
	kept, err := json.Marshal(p)
	return string(kept), err
}

// allows reports whether a queue may be the dead-letter queue of the one with an ARN.
func allows(target *queue, source string) bool {
	var p redriveAllow
	_ = json.Unmarshal([]byte(target.get(redriveAllowPolicy)), &p) // it is as checkRedriveAllow wrote it, or nothing
	switch p.Permission {
	case "denyAll":
		return false
	case "byQueue":
		return slices.Contains(p.Sources, source)
	}
	return true
}

// nameOf is the last part of a queue's ARN.
func nameOf(arn string) string { return arn[strings.LastIndexByte(arn, ':')+1:] }
