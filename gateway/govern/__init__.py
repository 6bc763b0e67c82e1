"""Control: how a changed file becomes what all serve, what is known of endpoints, what operators ask and do."""
