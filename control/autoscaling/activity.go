package autoscaling

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"thaw/control/internal/operation"
	trigger "thaw/trigger/autoscaling"
)

// activity is one scaling activity of a listing.
type activity struct {
	resource string
	trigger.Activity
}

// key sorts the newest first: what is left until the end of time gets larger as one goes back.
func (x activity) key() string {
	return fmt.Sprintf("%020d %s %020d", math.MaxInt64-x.Start.UnixNano(), x.resource, math.MaxUint64-x.Number)
}

func (a *API) describeScalingActivities(ctx context.Context, in *sdk.DescribeScalingActivitiesInput) (*sdk.DescribeScalingActivitiesOutput, error) {
	all, err := a.activities(ctx, resource{in.ServiceNamespace, operation.Value(in.ResourceId), in.ScalableDimension}, a.now())
	if err != nil {
		return nil, err
	}
	if !operation.Value(in.IncludeNotScaledActivities) {
		all = slices.DeleteFunc(all, func(x activity) bool { return x.NotScaled != "" })
	}
	slices.SortFunc(all, func(x, y activity) int { return strings.Compare(x.key(), y.key()) })
	part, next, err := page(all, activity.key, in.NextToken, in.MaxResults, maxPage)
	if err != nil {
		return nil, err
	}
	out := &sdk.DescribeScalingActivitiesOutput{ScalingActivities: make([]types.ScalingActivity, len(part)), NextToken: next}
	for i, x := range part {
		shown := types.ScalingActivity{
			ActivityId: &x.ID, ServiceNamespace: namespace, ResourceId: &x.resource, ScalableDimension: dimension,
			Description: &x.Description, Cause: &x.Cause, StartTime: &x.Start, StatusCode: types.ScalingActivityStatusCode(x.Status),
		}
		if x.Message != "" {
			shown.StatusMessage = &x.Message
		}
		if !x.End.IsZero() {
			shown.EndTime = &x.End
		}
		switch reason := (types.NotScaledReason{Code: &x.NotScaled, CurrentCapacity: aws.Int32(int32(x.From))}); x.NotScaled {
		case "":
		case trigger.AlreadyAtMax:
			reason.MaxCapacity = aws.Int32(int32(x.Max))
			shown.NotScaledReasons = []types.NotScaledReason{reason}
		default:
			reason.MinCapacity = aws.Int32(int32(x.Min))
			shown.NotScaledReasons = []types.NotScaledReason{reason}
		}
		out.ScalingActivities[i] = shown
	}
	return out, nil
}

// activities gives what a listing is about. Activities outlive their target.
func (a *API) activities(ctx context.Context, asked resource, now time.Time) ([]activity, error) {
	none, err := filter(asked)
	if none || err != nil {
		return nil, err
	}
	byResource := map[string][]trigger.Activity{}
	switch {
	case asked.id != "" && !resourcePattern.MatchString(asked.id):
		return nil, nil
	case asked.id != "":
		byResource[asked.id], err = a.records.Activities(ctx, asked.id, now)
	default:
		byResource, err = a.records.AllActivities(ctx, now)
	}
	var all []activity
	for id, list := range byResource {
		for _, x := range list {
			all = append(all, activity{id, x})
		}
	}
	return all, err
}
