"""The judgement of answers by a model: what it is asked, how its scores are read, and what is known of one call."""
