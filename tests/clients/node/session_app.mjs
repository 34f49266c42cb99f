import jmespath from "jmespath";

const RELEASE = "one";

export const handler = async (event) => {
  console.log("this is release", RELEASE);
  return { release: RELEASE, names: jmespath.search(event, "order.items[].name") };
};
