package lambda

import (
	"context"
	"regexp"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/trigger/mapping"
)

// What SelfManagedEventSource and SourceAccessConfigurations mean here beyond what they mean to AWS: the URL of an SQS API
// or of a NATS server, and the environment variables of this platform that hold the credentials for it.
const (
	endpointSQS    = "SQS_ENDPOINT"
	endpointNATS   = "NATS"
	environmentURI = "env:"
)

// Bounds of mappings. AWS's pages have the figures of queues; of filters a mapping has 5, or 10 when asked for.
const (
	maxQueueBatch = 10 // without a batching window, and of FIFO queues
	maxFilters    = 10
)

var sourcePattern = regexp.MustCompile(`^arn:aws[a-zA-Z0-9-]*:([a-zA-Z0-9-]+):`)

// sourceServices are the services that AWS has as event sources and that are not here, by the service part of their ARNs.
var sourceServices = map[string]string{
	"kinesis": "Kinesis streams", "dynamodb": "DynamoDB streams", "kafka": "Amazon MSK clusters", "mq": "Amazon MQ brokers",
	"rds": "DocumentDB change streams",
}

// source reads where the messages of a new mapping come from.
func (a *API) source(in *sdk.CreateEventSourceMappingInput) (mapping.Source, error) {
	s := mapping.Source{ARN: operation.Value(in.EventSourceArn)}
	if in.SelfManagedEventSource != nil {
		endpoint, err := readEndpoint(in.SelfManagedEventSource.Endpoints)
		if err != nil {
			return s, err
		}
		s.Endpoint = endpoint
	}
	switch m := sourcePattern.FindStringSubmatch(s.ARN); {
	case s.Kind() == mapping.KindNATS && s.ARN != "":
		return s, invalid("A NATS server has no EventSourceArn. Leave it out.")
	case s.Kind() == mapping.KindNATS:
		return s, nil
	case s.ARN == "" && s.Endpoint != "":
		return s, invalid("EventSourceArn must name the queue that is behind %s: arn:aws:sqs:REGION:ACCOUNT:NAME.", s.Endpoint)
	case m == nil:
		return s, invalid("Unrecognized event source.")
	case sourceServices[m[1]] != "":
		return s, notThere("Event source mappings of "+sourceServices[m[1]], "use a queue of SQS")
	case m[1] != "sqs":
		return s, invalid("Unrecognized event source.")
	}
	arn, ok := mapping.ParseQueueARN(s.ARN)
	if !ok {
		return s, invalid("'%s' is not the ARN of a queue. It has the form arn:aws:sqs:REGION:ACCOUNT:NAME.", s.ARN)
	}
	s.External = s.Endpoint != "" || arn.Account != a.cfg.Account.ID || arn.Region != a.cfg.Account.Region
	return s, nil
}

func readEndpoint(endpoints map[string][]string) (string, error) {
	if len(endpoints) != 1 {
		return "", invalid("SelfManagedEventSource must have one entry in Endpoints, %s or %s.", endpointSQS, endpointNATS)
	}
	for kind, list := range endpoints {
		switch {
		case kind == string(types.EndPointTypeKafkaBootstrapServers):
			return "", notThere("Event source mappings of self-managed Kafka clusters", "use a queue of SQS or NATS")
		case kind != endpointSQS && kind != endpointNATS:
			return "", invalid("There is no endpoint %s. Endpoints has %s or %s.", kind, endpointSQS, endpointNATS)
		case len(list) != 1:
			return "", invalid("%s must have one URL.", kind)
		}
		if err := mapping.CheckEndpoint(list[0]); err != nil {
			return "", invalid("%s.", err)
		}
		if s := (mapping.Source{Endpoint: list[0]}); (s.Kind() == mapping.KindNATS) != (kind == endpointNATS) {
			return "", invalid("'%s' is no URL for %s: an SQS API has http or https, a NATS server nats or tls.", list[0], kind)
		}
		return list[0], nil
	}
	return "", nil
}

// notThere is the error for what AWS has and this version has not.
func notThere(what, instead string) error {
	return thaw.Errorf(thaw.CodeNotImplemented, "%s are not in thaw yet: %s.", what, instead)
}

// member is one of a request that must be empty, and whether it is not.
type member struct {
	name  string
	given bool
	// aws says that AWS has it for queues and thaw does not; otherwise AWS refuses it for queues, too.
	aws bool
}

func refuseUnsupported(members []member) error {
	for _, m := range members {
		switch {
		case m.given && m.aws:
			return thaw.Errorf(thaw.CodeNotImplemented, "%s of event source mappings is not in thaw yet: leave it out.", m.name)
		case m.given && strings.HasPrefix(m.name, "StartingPosition"):
			return invalid("StartingPosition is not valid for SQS event sources.")
		case m.given:
			return invalid("Unsupported '%s' parameter for given event source mapping type.", m.name)
		}
	}
	return nil
}

func createUnsupported(in *sdk.CreateEventSourceMappingInput) []member {
	return []member{
		{name: "StartingPosition", given: in.StartingPosition != ""},
		{name: "StartingPositionTimestamp", given: in.StartingPositionTimestamp != nil},
		{name: "topics", given: len(in.Topics) > 0},
		{name: "queues", given: len(in.Queues) > 0},
		{name: "parallelizationFactor", given: in.ParallelizationFactor != nil},
		{name: "bisectBatchOnFunctionError", given: in.BisectBatchOnFunctionError != nil},
		{name: "maximumRecordAgeInSeconds", given: in.MaximumRecordAgeInSeconds != nil},
		{name: "maximumRetryAttempts", given: in.MaximumRetryAttempts != nil},
		{name: "tumblingWindowInSeconds", given: in.TumblingWindowInSeconds != nil},
		{name: "destinationConfig", given: hasDestination(in.DestinationConfig)},
		{name: "documentDBEventSourceConfig", given: in.DocumentDBEventSourceConfig != nil},
		{name: "amazonManagedKafkaEventSourceConfig", given: in.AmazonManagedKafkaEventSourceConfig != nil},
		{name: "selfManagedKafkaEventSourceConfig", given: in.SelfManagedKafkaEventSourceConfig != nil},
		{name: "loggingConfig", given: in.LoggingConfig != nil},
		{name: "KMSKeyArn", given: operation.Value(in.KMSKeyArn) != "", aws: true},
		{name: "ProvisionedPollerConfig", given: hasPollers(in.ProvisionedPollerConfig), aws: true},
	}
}

func updateUnsupported(in *sdk.UpdateEventSourceMappingInput) []member {
	return createUnsupported(&sdk.CreateEventSourceMappingInput{
		ParallelizationFactor: in.ParallelizationFactor, BisectBatchOnFunctionError: in.BisectBatchOnFunctionError,
		MaximumRecordAgeInSeconds: in.MaximumRecordAgeInSeconds, MaximumRetryAttempts: in.MaximumRetryAttempts,
		TumblingWindowInSeconds: in.TumblingWindowInSeconds, DestinationConfig: in.DestinationConfig,
		DocumentDBEventSourceConfig:         in.DocumentDBEventSourceConfig,
		AmazonManagedKafkaEventSourceConfig: in.AmazonManagedKafkaEventSourceConfig,
		SelfManagedKafkaEventSourceConfig:   in.SelfManagedKafkaEventSourceConfig, LoggingConfig: in.LoggingConfig,
		KMSKeyArn: in.KMSKeyArn, ProvisionedPollerConfig: in.ProvisionedPollerConfig,
	})
}

// hasDestination lets pass what tools send for none.
func hasDestination(d *types.DestinationConfig) bool {
	return d != nil && (d.OnFailure != nil && operation.Value(d.OnFailure.Destination) != "" || d.OnSuccess != nil && operation.Value(d.OnSuccess.Destination) != "")
}

func hasPollers(p *types.ProvisionedPollerConfig) bool {
	return p != nil && (p.MinimumPollers != nil || p.MaximumPollers != nil || operation.Value(p.PollerGroupName) != "")
}

// mappingSettings are the members that CreateEventSourceMapping and UpdateEventSourceMapping share; those that are nil
// stay as they are.
type mappingSettings struct {
	function      *string
	batch, window *int32
	scaling       *types.ScalingConfig
	filters       *types.FilterCriteria
	responses     []types.FunctionResponseType
	access        []types.SourceAccessConfiguration
	metrics       *types.EventSourceMappingMetricsConfig
}

// setMapping takes what is asked for into a mapping and judges the whole.
func (a *API) setMapping(op string, m *mapping.Mapping, asked *mappingSettings) error {
	if asked.function != nil {
		t, err := a.resolve(op, asked.function, nil)
		if err != nil {
			return err
		}
		m.Function, m.Qualifier = t.name, unlatest(t.qualifier)
	}
	if asked.batch != nil {
		m.BatchSize = int(*asked.batch)
	}
	if asked.window != nil {
		m.Window = int(*asked.window)
	}
	if asked.scaling != nil {
		m.MaxConcurrency = int(operation.Value(asked.scaling.MaximumConcurrency))
	}
	if asked.responses != nil {
		m.ReportFailures = len(asked.responses) > 0
	}
	if asked.filters != nil {
		m.Filters = nil
		for i := range asked.filters.Filters {
			m.Filters = append(m.Filters, operation.Value(asked.filters.Filters[i].Pattern))
		}
	}
	if err := setAccess(&m.Source, asked.access); err != nil {
		return err
	}
	if err := setMetrics(m, asked.metrics); err != nil {
		return err
	}
	if err := checkMapping(m); err != nil {
		return err
	}
	return a.checkMappedFunction(m)
}

// setMetrics reads which groups of metrics a mapping has. Of AWS's three, two are for Kafka alone.
func setMetrics(m *mapping.Mapping, asked *types.EventSourceMappingMetricsConfig) error {
	if asked == nil {
		return nil
	}
	m.CountEvents = false
	for _, group := range asked.Metrics {
		if group != types.EventSourceMappingMetricEventCount {
			return invalid("MetricsConfig has %s, which is for event source mappings of Kafka only. Others have %s.", group, types.EventSourceMappingMetricEventCount)
		}
		m.CountEvents = true
	}
	return nil
}

var variablePattern = regexp.MustCompile(`^env:([A-Z][A-Z0-9_]*)$`)

// setAccess reads which environment variables hold the credentials for a source that is not this platform's.
func setAccess(s *mapping.Source, access []types.SourceAccessConfiguration) error {
	if access == nil {
		return nil
	}
	if s.Kind() == mapping.KindQueue && len(access) > 0 {
		return invalid("Unsupported 'sourceAccessConfigurations' parameter for given event source mapping type.")
	}
	s.Credentials = ""
	for i := range access {
		m := variablePattern.FindStringSubmatch(operation.Value(access[i].URI))
		if access[i].Type != types.SourceAccessTypeBasicAuth || m == nil || i > 0 {
			return invalid("SourceAccessConfigurations must be one BASIC_AUTH whose URI is env:PREFIX, which stands for environment variables of thaw: PREFIX_AWS_ACCESS_KEY_ID and PREFIX_AWS_SECRET_ACCESS_KEY for queues, PREFIX_NATS_USER, PREFIX_NATS_PASSWORD, PREFIX_NATS_TOKEN and PREFIX_NATS_CREDS for NATS.")
		}
		s.Credentials = m[1]
	}
	return nil
}

// checkMapping judges the settings of a mapping with each other.
func checkMapping(m *mapping.Mapping) error {
	switch fifo := m.Source.FIFO(); {
	case fifo && m.Window > 0:
		return invalid("Batching window is not supported for FIFO queues")
	case fifo && m.BatchSize > maxQueueBatch:
		return invalid("Maximum batch size must be between 1 and %d inclusive", maxQueueBatch)
	case m.Source.Kind() != mapping.KindNATS && m.BatchSize > maxQueueBatch && m.Window == 0:
		return invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than %d", maxQueueBatch)
	case len(m.Filters) > maxFilters:
		return invalid("FilterCriteria has %d filters, and a mapping at most %d. Join some of them with $or.", len(m.Filters), maxFilters)
	}
	for _, pattern := range m.Filters {
		if mapping.CheckFilter(pattern) != nil {
			return invalid("Invalid filter pattern definition.")
		}
	}
	return nil
}

// checkMappedFunction judges the function of a mapping, and the queue with it.
func (a *API) checkMappedFunction(m *mapping.Mapping) error {
	f, ok := a.cfg.Functions.Function(m.Function)
	if !ok || versionOf(f, m.Qualifier) == nil {
		return invalid("Function does not exist")
	}
	if m.Source.Kind() != mapping.KindQueue {
		return nil // what another server has is looked at by the loop
	}
	queue, ok := a.cfg.Queue(m.Source.QueueName())
	if !ok {
		return invalid("Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist.")
	}
	if timeout := mapping.Timeout(f, m.Qualifier); queue.Options.Visibility < timeout {
		return invalid("Queue visibility timeout: %d seconds is less than Function timeout: %d seconds", int(queue.Options.Visibility.Seconds()), int(timeout.Seconds()))
	}
	return nil
}

// checkMapped refuses a second mapping between the same source and function.
func (a *API) checkMapped(ctx context.Context, m *mapping.Mapping) error {
	all, err := a.cfg.Mappings.All(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.UUID != m.UUID && other.Source.ARN == m.Source.ARN && other.Source.Endpoint == m.Source.Endpoint && other.Function == m.Function && other.Qualifier == m.Qualifier {
			kind, name := "SQS arn", m.Source.ARN
			if name == "" {
				kind, name = "endpoint", m.Source.Endpoint
			}
			return thaw.Errorf(thaw.CodeResourceConflict, `An event source mapping with %s (" %s ") and function (" %s ") already exists. Please update or delete the existing mapping with UUID %s`, kind, name, m.Function, other.UUID)
		}
	}
	return nil
}
