import jmespath

RELEASE = "one"


def handler(event, context):
    print("this is release", RELEASE)
    return {"release": RELEASE, "names": jmespath.search("order.items[].name", event)}
