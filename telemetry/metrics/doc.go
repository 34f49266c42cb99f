// Package metrics keeps the platform's and its users' metrics as CloudWatch does: a metric is a namespace, a name and a set of
// dimensions, and of each minute of a metric the number of values, their sum, their extremes and a histogram are kept.
//
// What is written is merged in memory, series by series, and is seen by readers at once. Each second what is new goes to a journal,
// so that a killed platform loses at most the second before; when a minute is over it is written to the time-series store below the
// data directory, and its journal is removed.
//
// Percentiles come from exponential histograms of 16 buckets for each doubling of the value: a percentile differs by at most
// MaxRelativeError from the exact one, and one of values that are all equal is exact. Count, sum, minimum and maximum are exact.
package metrics
