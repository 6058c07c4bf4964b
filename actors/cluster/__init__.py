"""Ray itself: the cluster, fleets of actors, failure policy, environment, wire format."""
