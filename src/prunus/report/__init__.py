"""One self-contained HTML page for each run: no network, no external file, readable with scripts off and on paper.

`prunus.report.ranker.write(result, path)` draws the page of a ranker from the plain dict of `result.json`,
`prunus.report.recommender.write` that of a recommender, and `prunus.report.stream.write(directory)` that of a stream from its logs.
"""
