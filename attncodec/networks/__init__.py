"""The networks of the codec: transforms, attention, priors, context model and bottlenecks."""
