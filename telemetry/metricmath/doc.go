// Package metricmath answers the queries of GetMetricData and of alarms: statistics of metrics, and CloudWatch's metric math
// over them, after the user guide's page "Using math expressions with CloudWatch metrics".
//
// Prepare checks a request's queries and says what is wrong with them in CloudWatch's words, without data; Run evaluates
// them over a range of time. A time series keeps the timestamps that it has values at: an operation of two series has a
// value where either has one, with 0 for the other's, and what would be infinite or no number is left out, as on AWS.
//
// A Plan may be run by many goroutines at once.
package metricmath
