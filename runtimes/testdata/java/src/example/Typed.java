package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;

/** Gets its type arguments from a superclass. */
public class Typed extends TypedBase<Methods.Person> {
    @Override
    public String handleRequest(Methods.Person person, Context context) {
        if (person.getAge() < 0) {
            throw new IllegalArgumentException("not born");
        }
        return person.getName() + " is " + person.getAge();
    }
}

abstract class TypedBase<T> implements RequestHandler<T, String> {}
