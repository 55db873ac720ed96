"""From a data set to the micro-batches of the next global batch: order, samplers, loaders, collators, columns."""
