package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.events.ThingEvent;

public class Events implements RequestHandler<ThingEvent, ThingEvent> {
    @Override
    public ThingEvent handleRequest(ThingEvent event, Context context) {
        return event;
    }
}
