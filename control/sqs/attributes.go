package sqs

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"

	"thaw"
	"thaw/state/queues"
)

// maxPolicy is the size of a queue's policy, bytes.
const maxPolicy = 20_480

// Names of attributes that more than their own row below speaks of.
const (
	delaySeconds        = "DelaySeconds"
	maximumMessageSize  = "MaximumMessageSize"
	retentionPeriod     = "MessageRetentionPeriod"
	receiveWait         = "ReceiveMessageWaitTimeSeconds"
	visibilityTimeout   = "VisibilityTimeout"
	fifoQueue           = "FifoQueue"
	contentBased        = "ContentBasedDeduplication"
	deduplicationScope  = "DeduplicationScope"
	fifoThroughputLimit = "FifoThroughputLimit"
	redrivePolicy       = "RedrivePolicy"
	redriveAllowPolicy  = "RedriveAllowPolicy"
	policyAttribute     = "Policy"
	managedSSE          = "SqsManagedSseEnabled"
)

// attribute is one that can be set.
type attribute struct {
	name string
	// standard is what a queue has that was not told otherwise; empty: it is not shown.
	standard string
	// Of those that are a number.
	number   bool
	min, max int
	// choices, where these are all that there can be.
	choices []string
	fifo    bool // only for FIFO queues
}

// attributes has AWS's ranges and defaults, after the documentation of SetQueueAttributes. What is encrypted on AWS
// unless one says no is not encrypted here.
var attributes = []attribute{
	{name: delaySeconds, standard: "0", number: true, max: 900},
	{name: maximumMessageSize, standard: "1048576", number: true, min: 1024, max: maxMessage},
	{name: retentionPeriod, standard: "345600", number: true, min: 60, max: 1_209_600},
	{name: receiveWait, standard: "0", number: true, max: maxWait},
	{name: visibilityTimeout, standard: "30", number: true, max: maxVisibility},
	{name: fifoQueue, standard: "true", choices: []string{"true"}, fifo: true},
	{name: contentBased, standard: "false", choices: []string{"true", "false"}, fifo: true},
	{name: deduplicationScope, standard: "queue", choices: []string{"queue", "messageGroup"}, fifo: true},
	{name: fifoThroughputLimit, standard: "perQueue", choices: []string{"perQueue", "perMessageGroupId"}, fifo: true},
	{name: redrivePolicy},
	{name: redriveAllowPolicy},
	{name: policyAttribute},
	{name: managedSSE, standard: "false", choices: []string{"true", "false"}},
	{name: "KmsMasterKeyId"},
	{name: "KmsDataKeyReusePeriodSeconds", number: true, min: 60, max: 86_400},
}

var attributeOf = func() map[string]attribute {
	byName := make(map[string]attribute, len(attributes))
	for _, x := range attributes {
		byName[x.name] = x
	}
	return byName
}()

func unknownAttribute(name string) error {
	return thaw.Errorf(thaw.CodeInvalidAttributeName, "Unknown Attribute %s.", name)
}

func invalidAttribute(name, reason string) error {
	if reason != "" {
		reason = " Reason: " + reason
	}
	return thaw.Errorf(thaw.CodeInvalidAttributeValue, "Invalid value for the parameter %s.%s", name, reason)
}

// setAttributes checks attributes that a request brings for a queue, and sets them. An empty policy takes the present
// one away. The order of the checks is that of the names, so that the same request always gets the same answer.
func (a *API) setAttributes(s *settings, queue string, fifo bool, brought map[string]string, creating bool) error {
	changed := maps.Clone(s.Attributes)
	if changed == nil {
		changed = make(map[string]string, len(brought))
	}
	for _, name := range slices.Sorted(maps.Keys(brought)) {
		x, known := attributeOf[name]
		if !known {
			return unknownAttribute(name)
		}
		v, err := a.check(x, queue, fifo, brought[name], creating)
		switch {
		case err != nil:
			return err
		case v == "":
			delete(changed, name)
		default:
			changed[name] = v
		}
	}
	s.Attributes = changed
	if s.get(fifoThroughputLimit) == "perMessageGroupId" && s.get(deduplicationScope) != "messageGroup" {
		return invalidAttribute(fifoThroughputLimit, "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.")
	}
	return nil
}

// check gives an attribute's value in the form that is kept; empty: none.
func (a *API) check(x attribute, queue string, fifo bool, v string, creating bool) (string, error) {
	if x.fifo && !fifo {
		if x.name == deduplicationScope || x.name == fifoThroughputLimit {
			return "", thaw.Errorf(thaw.CodeInvalidAttributeName, "You can specify the %s only when FifoQueue is set to true.", x.name)
		}
		return "", unknownAttribute(x.name)
	}
	switch {
	case x.name == fifoQueue && v != "true" && !creating:
		return "", invalidAttribute(x.name, "Modifying queue type is not supported.")
	case x.number:
		n, err := strconv.Atoi(v)
		if err != nil || n < x.min || n > x.max {
			return "", invalidAttribute(x.name, "")
		}
		v = strconv.Itoa(n)
	case x.choices != nil && !slices.Contains(x.choices, v):
		return "", invalidAttribute(x.name, "")
	}
	switch x.name {
	case redrivePolicy:
		return a.checkRedrive(queue, fifo, v)
	case redriveAllowPolicy:
		return checkRedriveAllow(v)
	case policyAttribute:
		var object map[string]any
		if v != "" && (len(v) > maxPolicy || json.Unmarshal([]byte(v), &object) != nil) {
			return "", invalidAttribute(x.name, "")
		}
	case managedSSE, "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds":
		if v != "" && v != "false" {
			return "", thaw.Errorf(thaw.CodeNotImplemented, "%s: thaw does not encrypt the messages of queues. Leave the attribute out, and put the data directory on an encrypted disk.", x.name)
		}
	}
	return v, nil
}

// options is what the attributes mean to the queue.
func (s *settings) options(fifo bool) queues.Options {
	seconds := func(name string) time.Duration {
		n, _ := strconv.Atoi(s.get(name)) // it was checked when it was set
		return time.Duration(n) * time.Second
	}
	o := queues.Options{
		FIFO: fifo, Delay: seconds(delaySeconds), Visibility: seconds(visibilityTimeout), Retention: seconds(retentionPeriod),
		GroupDedup: fifo && s.get(deduplicationScope) == "messageGroup",
	}
	if text := s.get(redrivePolicy); text != "" {
		var p redrive
		_ = json.Unmarshal([]byte(text), &p) // it is as checkRedrive wrote it
		o.DeadLetter, o.MaxReceives = prefix+nameOf(p.Target), p.MaxReceives
	}
	return o
}

func (a *API) setQueueAttributes(ctx context.Context, in *sdk.SetQueueAttributesInput) (*sdk.SetQueueAttributesOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	err = a.update(ctx, q, func(s *settings) error {
		s.Changed = a.now().UTC()
		return a.setAttributes(s, q.name, q.fifo, in.Attributes, false)
	})
	return &sdk.SetQueueAttributesOutput{}, err
}

func (a *API) getQueueAttributes(ctx context.Context, in *getQueueAttributesInput) (*sdk.GetQueueAttributesOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	shown := a.shown(q)
	if slices.Contains(in.AttributeNames, "All") {
		return &sdk.GetQueueAttributesOutput{Attributes: shown}, nil
	}
	out := &sdk.GetQueueAttributesOutput{}
	for _, name := range in.AttributeNames {
		v, ok := shown[name]
		if _, settable := attributeOf[name]; !ok && !settable {
			return nil, unknownAttribute(name)
		}
		if ok {
			if out.Attributes == nil {
				out.Attributes = make(map[string]string, len(in.AttributeNames))
			}
			out.Attributes[name] = v
		}
	}
	return out, nil
}

// shown is everything that a queue shows.
func (a *API) shown(q *queue) map[string]string {
	depth, info := q.Depth(), q.Info()
	shown := map[string]string{
		"ApproximateNumberOfMessages":           strconv.Itoa(depth.Visible),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(depth.InFlight),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(depth.Delayed),
		"CreatedTimestamp":                      strconv.FormatInt(info.Created.Unix(), 10),
		"LastModifiedTimestamp":                 strconv.FormatInt(q.Changed.Unix(), 10),
		"QueueArn":                              a.arn(q.name),
	}
	for _, x := range attributes {
		if v := q.get(x.name); v != "" && (q.fifo || !x.fifo) {
			shown[x.name] = v
		}
	}
	return shown
}
