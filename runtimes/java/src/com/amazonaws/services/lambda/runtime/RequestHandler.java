package com.amazonaws.services.lambda.runtime;

/** A handler of values that are bound to JSON. */
public interface RequestHandler<I, O> {
    O handleRequest(I input, Context context);
}
