package com.amazonaws.services.lambda.runtime.events;

import java.util.Date;
import java.util.List;

/** In the manner of the library's events: names that differ in case, and records that only have a constructor. */
public class ThingEvent {
    private List<Thing> records;

    public List<Thing> getRecords() {
        return records;
    }

    public void setRecords(List<Thing> records) {
        this.records = records;
    }

    public static class Thing {
        private final String awsRegion;
        private final Date eventTime;

        public Thing(String awsRegion, Date eventTime) {
            this.awsRegion = awsRegion;
            this.eventTime = eventTime;
        }

        public String getAwsRegion() {
            return awsRegion;
        }

        public Date getEventTime() {
            return eventTime;
        }
    }
}
