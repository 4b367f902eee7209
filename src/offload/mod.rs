//! Inner offloads: what the virtio-net header in front of a frame leaves to be done.
