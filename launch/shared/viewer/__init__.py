"""Episodes as one HTML file that needs nothing else: a radar scope to play, with a timeline and profiles.

flown.py      what an episode is to the viewer, and how to make one of recordings and of played episodes
losses.py     which pairs of aircraft were too close, and when
pack.py       an episode as compact JSON
page.py       JSON as a page, and a picture of the page
*.js, page.*  the page itself: decode.js reads the numbers, scope.js, timeline.js and profile.js draw
"""
