package lambda

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	"thaw/state"
	"thaw/trigger/mapping"
)

// registerMappings adds the operations of event source mappings. They write records; what they ask for is done by the
// loop of package mapping, which also ends the states that end in "ing".
func (a *API) registerMappings(s *awsapi.Service) {
	awsapi.Handle(s, "CreateEventSourceMapping", a.createEventSourceMapping)
	awsapi.Handle(s, "GetEventSourceMapping", a.getEventSourceMapping)
	awsapi.Handle(s, "ListEventSourceMappings", a.listEventSourceMappings)
	awsapi.Handle(s, "UpdateEventSourceMapping", a.updateEventSourceMapping)
	awsapi.Handle(s, "DeleteEventSourceMapping", a.deleteEventSourceMapping)
}

func (a *API) createEventSourceMapping(ctx context.Context, in *sdk.CreateEventSourceMappingInput) (*sdk.CreateEventSourceMappingOutput, error) {
	source, err := a.source(in)
	if err != nil {
		return nil, err
	}
	if err := refuseUnsupported(createUnsupported(in)); err != nil {
		return nil, err
	}
	if err := checkTags(nil, in.Tags); err != nil {
		return nil, err
	}
	m := &mapping.Mapping{
		UUID: uuid.NewString(), Source: source, Enabled: in.Enabled == nil || *in.Enabled, BatchSize: 10,
		Tags: in.Tags, State: mapping.StateCreating, StateReason: mapping.ReasonUser, Modified: a.now().UTC(), Revision: 1,
	}
	if !m.Enabled {
		m.State = mapping.StateDisabled
	}
	if source.Kind() != mapping.KindQueue && source.Kind() != mapping.KindExternal {
		m.BatchSize = 100 // AWS's for everything that is no queue
	}
	asked := mappingSettings{
		function: in.FunctionName, batch: in.BatchSize, window: in.MaximumBatchingWindowInSeconds, scaling: in.ScalingConfig,
		filters: in.FilterCriteria, responses: in.FunctionResponseTypes, access: in.SourceAccessConfigurations, metrics: in.MetricsConfig,
	}
	if err := a.setMapping("CreateEventSourceMapping", m, &asked); err != nil {
		return nil, err
	}
	a.mapping.Lock()
	defer a.mapping.Unlock()
	if err := a.checkMapped(ctx, m); err != nil {
		return nil, err
	}
	if err := a.cfg.Mappings.Create(ctx, m); err != nil {
		return nil, storeError(err)
	}
	return fill(&sdk.CreateEventSourceMappingOutput{}, a.describeMapping(m)), nil
}

func (a *API) getEventSourceMapping(ctx context.Context, in *sdk.GetEventSourceMappingInput) (*sdk.GetEventSourceMappingOutput, error) {
	m, err := a.getMapping(ctx, operation.Value(in.UUID))
	if err != nil {
		return nil, err
	}
	return fill(&sdk.GetEventSourceMappingOutput{}, a.describeMapping(m)), nil
}

func (a *API) updateEventSourceMapping(ctx context.Context, in *sdk.UpdateEventSourceMappingInput) (*sdk.UpdateEventSourceMappingOutput, error) {
	if err := refuseUnsupported(updateUnsupported(in)); err != nil {
		return nil, err
	}
	asked := mappingSettings{
		function: in.FunctionName, batch: in.BatchSize, window: in.MaximumBatchingWindowInSeconds, scaling: in.ScalingConfig,
		filters: in.FilterCriteria, responses: in.FunctionResponseTypes, access: in.SourceAccessConfigurations, metrics: in.MetricsConfig,
	}
	a.mapping.Lock()
	defer a.mapping.Unlock()
	m, err := a.changeMapping(ctx, operation.Value(in.UUID), func(m *mapping.Mapping) error {
		if !m.Settled() {
			return thaw.Errorf(thaw.CodeResourceInUse, "Cannot update the event source mapping because it is in use.")
		}
		if err := a.setMapping("UpdateEventSourceMapping", m, &asked); err != nil {
			return err
		}
		if err := a.checkMapped(ctx, m); err != nil {
			return err
		}
		m.State = mapping.StateUpdating
		switch enabled := operation.Value(in.Enabled); {
		case in.Enabled == nil || enabled == m.Enabled:
		case enabled:
			m.State = mapping.StateEnabling
		default:
			m.State = mapping.StateDisabling
		}
		if in.Enabled != nil {
			m.Enabled = *in.Enabled
		}
		m.StateReason, m.Modified = mapping.ReasonUser, a.now().UTC()
		m.Revision++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fill(&sdk.UpdateEventSourceMappingOutput{}, a.describeMapping(m)), nil
}

func (a *API) deleteEventSourceMapping(ctx context.Context, in *sdk.DeleteEventSourceMappingInput) (*sdk.DeleteEventSourceMappingOutput, error) {
	m, err := a.changeMapping(ctx, operation.Value(in.UUID), func(m *mapping.Mapping) error {
		if !m.Settled() {
			return thaw.Errorf(thaw.CodeResourceInUse, "Cannot delete the event source mapping because it is in use.")
		}
		m.State, m.StateReason, m.Modified = mapping.StateDeleting, mapping.ReasonUser, a.now().UTC()
		m.Revision++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return fill(&sdk.DeleteEventSourceMappingOutput{}, a.describeMapping(m)), nil
}

// mappingID is a mapping's UUID as it is stored, given in whatever case. What is no UUID names none.
func mappingID(given string) (string, error) {
	if uuid.Validate(given) != nil {
		return "", noMapping(state.ErrNotFound)
	}
	return strings.ToLower(given), nil
}

// getMapping gives the mapping with a UUID.
func (a *API) getMapping(ctx context.Context, given string) (*mapping.Mapping, error) {
	id, err := mappingID(given)
	if err != nil {
		return nil, err
	}
	m, err := a.cfg.Mappings.Get(ctx, id)
	return m, noMapping(err)
}

// changeMapping is getMapping that stores what change made of the mapping.
func (a *API) changeMapping(ctx context.Context, given string, change func(*mapping.Mapping) error) (*mapping.Mapping, error) {
	id, err := mappingID(given)
	if err != nil {
		return nil, err
	}
	m, err := a.cfg.Mappings.Update(ctx, id, change)
	return m, noMapping(err)
}

// noMapping words the store's errors about a mapping that was named by its UUID.
func noMapping(err error) error {
	if errors.Is(err, state.ErrNotFound) {
		return thaw.Errorf(thaw.CodeResourceNotFound, "The resource you requested does not exist.")
	}
	return storeError(err)
}

// maxMappingPage is the most that a page has, after the documentation of ListEventSourceMappings.
const maxMappingPage = 100

func (a *API) listEventSourceMappings(ctx context.Context, in *sdk.ListEventSourceMappingsInput) (*sdk.ListEventSourceMappingsOutput, error) {
	var of *target
	if in.FunctionName != nil {
		t, err := a.resolve("ListEventSourceMappings", in.FunctionName, nil)
		if err != nil {
			return nil, err
		}
		of = &t
	}
	all, err := a.cfg.Mappings.All(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m *mapping.Mapping) bool {
		return in.EventSourceArn != nil && m.Source.ARN != *in.EventSourceArn ||
			of != nil && (m.Function != of.name || m.Qualifier != unlatest(of.qualifier))
	})
	size := maxMappingPage
	if in.MaxItems != nil {
		size = min(size, int(*in.MaxItems))
	}
	part, next, err := operation.Cut(all, func(m *mapping.Mapping) string { return m.UUID }, given(in.Marker), size)
	if err != nil {
		return nil, wrongMarker("ListEventSourceMappings")
	}
	out := &sdk.ListEventSourceMappingsOutput{EventSourceMappings: make([]types.EventSourceMappingConfiguration, len(part)), NextMarker: next}
	for i, m := range part {
		out.EventSourceMappings[i] = *a.describeMapping(m)
	}
	return out, nil
}

// unlatest leaves out the qualifier that means the same as none.
func unlatest(qualifier string) string {
	if qualifier == thaw.Latest {
		return ""
	}
	return qualifier
}

// describeMapping renders a mapping as the Lambda API shows it.
func (a *API) describeMapping(m *mapping.Mapping) *types.EventSourceMappingConfiguration {
	c := &types.EventSourceMappingConfiguration{
		BatchSize:                      aws.Int32(int32(m.BatchSize)),
		EventSourceArn:                 operation.Optional(m.Source.ARN),
		EventSourceMappingArn:          aws.String(a.mappingARN(m.UUID)),
		FunctionArn:                    aws.String(a.arn(target{m.Function, m.Qualifier})),
		FunctionResponseTypes:          []types.FunctionResponseType{},
		LastModified:                   &m.Modified,
		LastProcessingResult:           operation.Optional(m.LastResult),
		MaximumBatchingWindowInSeconds: aws.Int32(int32(m.Window)),
		State:                          &m.State,
		StateTransitionReason:          &m.StateReason,
		UUID:                           &m.UUID,
	}
	if m.ReportFailures {
		c.FunctionResponseTypes = append(c.FunctionResponseTypes, types.FunctionResponseTypeReportBatchItemFailures)
	}
	if m.MaxConcurrency > 0 {
		c.ScalingConfig = &types.ScalingConfig{MaximumConcurrency: aws.Int32(int32(m.MaxConcurrency))}
	}
	if m.CountEvents {
		c.MetricsConfig = &types.EventSourceMappingMetricsConfig{Metrics: []types.EventSourceMappingMetric{types.EventSourceMappingMetricEventCount}}
	}
	if len(m.Filters) > 0 {
		c.FilterCriteria = &types.FilterCriteria{}
		for _, pattern := range m.Filters {
			c.FilterCriteria.Filters = append(c.FilterCriteria.Filters, types.Filter{Pattern: aws.String(pattern)})
		}
	}
	if m.Source.Endpoint != "" {
		kind := endpointSQS
		if m.Source.Kind() == mapping.KindNATS {
			kind = endpointNATS
		}
		c.SelfManagedEventSource = &types.SelfManagedEventSource{Endpoints: map[string][]string{kind: {m.Source.Endpoint}}}
	}
	if m.Source.Credentials != "" {
		c.SourceAccessConfigurations = []types.SourceAccessConfiguration{{Type: types.SourceAccessTypeBasicAuth, URI: aws.String(environmentURI + m.Source.Credentials)}}
	}
	return c
}

func (a *API) mappingARN(id string) string {
	return "arn:aws:lambda:" + a.cfg.Account.Region + ":" + a.cfg.Account.ID + ":event-source-mapping:" + id
}
