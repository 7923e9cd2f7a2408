"""The Slack app's manifest: what `refine manifest` prints, to paste at api.slack.com/apps → From a manifest.

Source: https://docs.slack.dev/reference/app-manifest
"""

from __future__ import annotations

_MANIFEST = """\
# The manifest of Refine's Slack app. Paste it at https://api.slack.com/apps, "Create New App", "From a manifest".
#
# This is for Socket Mode: no public address is needed. Make an app-level token with connections:write afterwards and
# set it as SLACK_APP_TOKEN. For signed HTTP in place of it: set socket_mode_enabled to false, and add your address
# (https://refine.example.com/slack/events) as request_url to event_subscriptions and to interactivity, as
# message_menu_options_url to interactivity, and as url to the slash command; set SLACK_SIGNING_SECRET.
_metadata:
  major_version: 1
  minor_version: 1
display_information:
  name: Refine
  description: Trims what roles open to the outside may do
  long_description: >-
    Refine puts each IAM role that can be assumed from outside the account on one card: who can get in, what the role
    may do, and what it really did. It proposes trimmed policies with a proof, writes them once an approver says yes to
    that very text, and can always put the old ones back. It never grants what was not granted.
  background_color: "#1d3557"
features:
  app_home:
    home_tab_enabled: true
    messages_tab_enabled: true
    messages_tab_read_only_enabled: true
  bot_user:
    display_name: Refine
    always_online: true
  shortcuts:
    - name: Refine a role
      type: global
      callback_id: refine_role
      description: Pick a role and trim what it may do
    - name: Refine this role
      type: message
      callback_id: refine_message
      description: Trim the role whose ARN the message names
  slash_commands:
    - command: /refine
      description: Trim an IAM role that can be assumed from outside
      usage_hint: ApplicationRole | list | status | history ROLE | rollback ROLE REASON | help
      should_escape: false
oauth_config:
  scopes:
    bot:
      - chat:write # cards and threads
      - commands # /refine and the shortcuts
      - files:write # whole documents, reports and pictures
      - users:read # who pressed the button: guests, bots and strangers may not act
      - usergroups:read # who the approvers are
      - channels:read # whether the channel is shared with another organization
      - channels:history # a post whose answer was lost is looked for, so that it is not posted twice
      - groups:read # the same for a private channel
      - groups:history # the same for a private channel
settings:
  event_subscriptions:
    bot_events:
      - app_home_opened
  interactivity:
    is_enabled: true
  org_deploy_enabled: false
  socket_mode_enabled: true
  token_rotation_enabled: false
"""


def manifest() -> str:
    """Return the manifest as YAML."""
    return _MANIFEST
