package autoscaling

import (
	"context"
	"maps"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"

	"thaw"
	trigger "thaw/trigger/autoscaling"
)

func (a *API) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	err := a.changeTags(ctx, *in.ResourceARN, func(t *trigger.Target) error { return addTags(t, in.Tags) })
	return &sdk.TagResourceOutput{}, err
}

func (a *API) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	err := a.changeTags(ctx, *in.ResourceARN, func(t *trigger.Target) error {
		for _, key := range in.TagKeys {
			delete(t.Tags, key)
		}
		return nil
	})
	return &sdk.UntagResourceOutput{}, err
}

func (a *API) listTagsForResource(ctx context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	t, err := a.byARN(ctx, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if t.Tags == nil {
		t.Tags = map[string]string{}
	}
	return &sdk.ListTagsForResourceOutput{Tags: t.Tags}, nil
}

// changeTags changes the target with that ARN, and not one that was registered in its place.
func (a *API) changeTags(ctx context.Context, arn string, change func(*trigger.Target) error) error {
	t, err := a.byARN(ctx, arn)
	if err != nil {
		return err
	}
	id := t.ID
	_, err = a.update(ctx, resource{namespace, t.ResourceID(), dimension}, noResource(arn), func(t *trigger.Target) error {
		if t.ID != id {
			return noResource(arn)
		}
		return change(t)
	})
	return err
}

func (a *API) byARN(ctx context.Context, arn string) (*trigger.Target, error) {
	id, ok := strings.CutPrefix(arn, a.targetPrefix())
	if !ok {
		return nil, noResource(arn)
	}
	targets, err := a.records.Targets(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		if t.ID == id {
			return t, nil
		}
	}
	return nil, noResource(arn)
}

func noResource(arn string) error {
	return thaw.Errorf(thaw.CodeResourceNotFound, "The specified resource doesn't exist: %s", arn)
}

// addTags puts tags on a target, or says why they cannot be.
func addTags(t *trigger.Target, added map[string]string) error {
	tags := maps.Clone(t.Tags)
	for key, v := range added {
		if strings.HasPrefix(strings.ToLower(key), "aws:") {
			return invalid("Tag key '%s' is not allowed: the prefix aws: is reserved. Choose another key.", key)
		}
		if tags == nil {
			tags = map[string]string{}
		}
		tags[key] = v
	}
	if len(tags) > maxTags {
		return thaw.Errorf(thaw.CodeTooManyTags, "A scalable target can have %d tags.", maxTags)
	}
	t.Tags = tags
	return nil
}
