"""takedown: a person out of workspace, release and Hub."""
