-- The kilograms of each variety by year.
SELECT year, variety, round(sum(kilograms), 1) AS kilograms
FROM 'harvest.csv'
GROUP BY year, variety
ORDER BY year, variety;
