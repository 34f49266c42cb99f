package sqs

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/sqs"
)

// Limits of tags, after the page on tagging queues in the developer guide.
const (
	maxTags     = 50
	maxTagKey   = 128 // characters
	maxTagValue = 256 // characters
)

func (a *API) tagQueue(ctx context.Context, in *sdk.TagQueueInput) (*sdk.TagQueueOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	err = a.update(ctx, q, func(s *settings) error {
		tags := maps.Clone(s.Tags)
		if tags == nil {
			tags = make(map[string]string, len(in.Tags))
		}
		maps.Copy(tags, in.Tags)
		s.Tags = tags
		return checkTags(q.name, tags)
	})
	return &sdk.TagQueueOutput{}, err
}

func (a *API) untagQueue(ctx context.Context, in *sdk.UntagQueueInput) (*sdk.UntagQueueOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	err = a.update(ctx, q, func(s *settings) error {
		s.Tags = maps.Clone(s.Tags)
		maps.DeleteFunc(s.Tags, func(key, _ string) bool { return slices.Contains(in.TagKeys, key) })
		return nil
	})
	return &sdk.UntagQueueOutput{}, err
}

func (a *API) listQueueTags(ctx context.Context, in *sdk.ListQueueTagsInput) (*sdk.ListQueueTagsOutput, error) {
	q, err := a.at(ctx, in.QueueUrl)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListQueueTagsOutput{}
	if len(q.Tags) > 0 {
		out.Tags = q.Tags
	}
	return out, nil
}

// checkTags judges all tags of a queue together.
func checkTags(queue string, tags map[string]string) error {
	if len(tags) > maxTags {
		return invalid("Too many tags added for queue %s. A queue can have %d.", queue, maxTags)
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		switch {
		case key == "" || utf8.RuneCountInString(key) > maxTagKey:
			return invalid("Tag keys must be between 1 and %d characters in length; '%s' is not.", maxTagKey, key)
		case utf8.RuneCountInString(tags[key]) > maxTagValue:
			return invalid("Tag values can have %d characters; that of '%s' is longer.", maxTagValue, key)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("Tag key '%s' is not allowed: the prefix aws: is reserved.", key)
		}
	}
	return nil
}
