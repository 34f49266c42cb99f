package logs

import (
	"context"
	"maps"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"thaw"
	"thaw/telemetry/groups"
)

// maxTags is how many tags a log group can have, as in the model.
const maxTags = 50

func checkTags(tags map[string]string) error {
	for key := range tags {
		if strings.HasPrefix(strings.ToLower(key), "aws:") {
			return invalid("The tag key %s is reserved: keys cannot begin with aws:.", key)
		}
	}
	return nil
}

func (a *API) tag(ctx context.Context, name string, tags map[string]string) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	return a.update(ctx, name, func(g *groups.Group) error {
		all := maps.Clone(g.Tags)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, tags)
		if len(all) > maxTags {
			return thaw.Errorf(thaw.CodeTooManyTags, "A log group can have %d tags, and this would make %d. Remove some first.", maxTags, len(all))
		}
		g.Tags = all
		return nil
	})
}

func (a *API) untag(ctx context.Context, name string, keys []string) error {
	return a.update(ctx, name, func(g *groups.Group) error {
		g.Tags = maps.Clone(g.Tags)
		for _, key := range keys {
			delete(g.Tags, key)
		}
		return nil
	})
}

func (a *API) tags(ctx context.Context, name string) (map[string]string, error) {
	g, err := a.group(ctx, &name, nil)
	if err != nil {
		return nil, err
	}
	if g.Tags == nil {
		g.Tags = map[string]string{}
	}
	return g.Tags, nil
}

func (a *API) tagLogGroup(ctx context.Context, in *sdk.TagLogGroupInput) (*sdk.TagLogGroupOutput, error) {
	return nil, a.tag(ctx, *in.LogGroupName, in.Tags)
}

func (a *API) untagLogGroup(ctx context.Context, in *sdk.UntagLogGroupInput) (*sdk.UntagLogGroupOutput, error) {
	return nil, a.untag(ctx, *in.LogGroupName, in.Tags)
}

func (a *API) listTagsLogGroup(ctx context.Context, in *sdk.ListTagsLogGroupInput) (*sdk.ListTagsLogGroupOutput, error) {
	tags, err := a.tags(ctx, *in.LogGroupName)
	return &sdk.ListTagsLogGroupOutput{Tags: tags}, err
}

// tagged is the group that a resource's ARN names.
func (a *API) tagged(resource string) (string, error) {
	if !strings.HasPrefix(resource, a.arn("")) {
		if strings.HasPrefix(resource, "arn:") && !strings.Contains(resource, ":log-group:") {
			return "", thaw.Errorf(thaw.CodeNotImplemented, "Only log groups have tags here: %s is none.", resource)
		}
		return "", thaw.Errorf(thaw.CodeResourceNotFound, "The specified resource does not exist.")
	}
	return a.nameOf(resource)
}

func (a *API) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	name, err := a.tagged(*in.ResourceArn)
	if err == nil {
		err = a.tag(ctx, name, in.Tags)
	}
	return nil, err
}

func (a *API) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	name, err := a.tagged(*in.ResourceArn)
	if err == nil {
		err = a.untag(ctx, name, in.TagKeys)
	}
	return nil, err
}

func (a *API) listTagsForResource(ctx context.Context, in *sdk.ListTagsForResourceInput) (*sdk.ListTagsForResourceOutput, error) {
	name, err := a.tagged(*in.ResourceArn)
	if err != nil {
		return nil, err
	}
	tags, err := a.tags(ctx, name)
	return &sdk.ListTagsForResourceOutput{Tags: tags}, err
}
