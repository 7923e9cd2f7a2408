"""What Refine says in Slack: one message or view a file, the words that several share in `kit.j2`.

Every `{{ }}` is encoded as a JSON value (see `bot/messages/render.py`), so no quotes are written around it. Mrkdwn is
made by the `mrk` filter from a literal of the template; data goes in through its arguments.
"""
