"""The pages: the file in `views`, title and icon of each. The first page is the start page."""

PAGES = {
    "overview": ("Overview", ":material/dashboard:"),
    "experiments": ("Experiments", ":material/science:"),
    "models": ("Models", ":material/deployed_code:"),
    "try_it": ("Try it", ":material/play_circle:"),
    "drift": ("Drift", ":material/query_stats:"),
    "pipelines": ("Pipelines", ":material/account_tree:"),
}

START = next(iter(PAGES))
